"""`python -m platform.publish RUN --to FOLDER|hf:OWNER/NAME`: the best model with a model card."""

from platform._door import enter

if __name__ == "__main__":
    enter("publish")
