"""What the command line's exit codes mean (the numbers of sysexits.h)."""

OK = 0
USAGE = 64  # the command line was wrong
UNAVAILABLE = 69  # not ready, or somebody needed for it is not there
INTERNAL = 70  # a bug of ours
CONFIG = 78  # the config is wrong
INTERRUPTED = 130  # Ctrl-C, as shells say it
NAGIOS_UNKNOWN = 3  # of `health --nagios` alone, whose codes are those of Nagios: 0 to 3
