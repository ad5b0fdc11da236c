"""Accounts that come with the package, one TOML file each: see `account_files`."""
