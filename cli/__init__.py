"""The command line: options in, exit codes out; heavy imports wait inside the commands."""
