"""The marks that the lab's processes carry in their environment, and by which they are found."""

INSTANCE_MARK = "SPOTRUNNER_LAB_INSTANCE"  # <lab id>/<instance id>
UNIT_MARK = "SPOTRUNNER_LAB_UNIT"  # <instance mark>/<unit>
CONTAINER_MARK = "SPOTRUNNER_LAB_CONTAINER"  # <instance mark>/<container id>
LAB_MARK = "SPOTRUNNER_LAB"  # <folder>: the lab's own process
