"""`python -m platform.data FOLDER`: what is in a folder of images, with a contact sheet."""

from platform._door import enter

if __name__ == "__main__":
    enter("data")
