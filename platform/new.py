"""`python -m platform.new NAME --data FOLDER`: a study file for a folder of images."""

from platform._door import enter

if __name__ == "__main__":
    enter("new")
