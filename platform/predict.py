"""`python -m platform.predict RUN IMAGE|FOLDER|PATTERN...`: label and confidence of each image, or a rejection."""

from platform._door import enter

if __name__ == "__main__":
    enter("predict")
