"""Random Keras models through the whole compiler, judged at every stage. See runner.py; `make fuzz N=10000`."""
