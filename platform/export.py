"""`python -m platform.export RUN`: the best model as ONNX, or as a folder that needs torch and Pillow only."""

from platform._door import enter

if __name__ == "__main__":
    enter("export")
