"""int8 .tflite files: writing (export), reading, and the FlatBuffers schema they share."""
