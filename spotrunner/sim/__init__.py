"""The EC2 market as one state machine with its clock passed in, its weather, a cloud over it."""
