"""The commands of the command line, by the room they look into. They import what they need when they run."""
