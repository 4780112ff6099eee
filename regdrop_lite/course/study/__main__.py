"""``python -m regdrop_lite.course.study``: the command of :mod:`.sweep`."""

import sys

from regdrop_lite.course.study.sweep import main

if __name__ == "__main__":
    sys.exit(main())
