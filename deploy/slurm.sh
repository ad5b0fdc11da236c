#!/usr/bin/env bash
# sbatch deploy/slurm.sh STUDY [options of `algoprogress submit`]
#
# Starts Ray on the allocation (one node is head and worker, the others join it), trains the study and ends with it. What
# the time limit cuts off goes on with the next sbatch of the same line: finished runs are in the store, longer ones resume.
# Run it in the checkout, which like the store ($ALGOPROGRESS_STORE) must be a folder that all nodes mount. It waits for
# all nodes, at most $ALGOPROGRESS_JOIN_SECONDS (300); one that comes later still is examined then, and given runs.
#SBATCH --job-name=algoprogress
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

study=${1:?"usage: sbatch deploy/slurm.sh STUDY [options of algoprogress submit]"}
shift
: "${ALGOPROGRESS_STORE:?set it to a folder that all nodes mount, or to a URL}"
export PATH="$PWD/.venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
# a token of this job's own: other users of the nodes cannot reach its Ray
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 10000))  # Ray's workers have 10002 to 19999
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname -I | awk '{print $1}')

started=()
stop() { kill "${started[@]}" 2>/dev/null || true; wait || true; }
trap stop EXIT
trap 'exit 143' TERM

# since Slurm 22.05 a step does not inherit --cpus-per-task from the batch script
srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --overlap -w "$head" ray start --head --block --port="$port" \
    --node-ip-address="$address" --num-cpus="$cpus" --num-gpus="$gpus" --include-dashboard=false &
started+=($!)
for _ in $(seq 120); do
    (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null && break
    kill -0 "${started[0]}" 2>/dev/null || { echo "Ray's head did not start on $head" >&2; exit 1; }
    sleep 1
done
for node in "${nodes[@]:1}"; do
    srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --overlap -w "$node" ray start --block \
        --address="$address:$port" --num-cpus="$cpus" --num-gpus="$gpus" &
    started+=($!)
done

# what is to last is in the background, so that bash can act on the warning before the time limit
python - "$address:$port" "${#nodes[@]}" "${ALGOPROGRESS_JOIN_SECONDS:-300}" <<'END' &
import sys, time, ray
address, wanted, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
joined, deadline = 0, time.monotonic() + seconds
while joined < wanted and time.monotonic() < deadline:
    try:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level="error")
        joined = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError) as error:  # the head itself may still be starting
        print(f"waiting for Ray at {address}: {error}", file=sys.stderr)
    time.sleep(1)
if joined < wanted:
    print(f"{joined} of {wanted} nodes have joined Ray at {address} within {seconds:g} s: the study begins on these, and "
          "takes the others when they come. What keeps them is above; ALGOPROGRESS_JOIN_SECONDS gives them longer",
          file=sys.stderr)
END
waits=$!
started+=("$waits")
wait "$waits"

algoprogress submit "$study" --address "$address:$port" --store "$ALGOPROGRESS_STORE" "$@" &
submitted=$!
started+=("$submitted")
wait "$submitted"
