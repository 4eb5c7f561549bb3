"""A system without fork and alarms, for whatever Python starts with this folder on its path."""

import os
import signal

del os.fork, signal.setitimer
