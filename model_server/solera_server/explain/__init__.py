"""Which features made a prediction what it is: exact contributions that add up, and their two protocols."""
