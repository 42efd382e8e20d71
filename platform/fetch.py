"""`python -m platform.fetch STUDY`: fetches weights and images into the storage's cache beforehand."""

from platform._door import enter

if __name__ == "__main__":
    enter("fetch")
