"""`python -m platform.plan STUDY`: what a search would take, after a short probe of it."""

from platform._door import enter

if __name__ == "__main__":
    enter("plan")
