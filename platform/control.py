"""`python -m platform.control RUN COMMAND`: tells a running search something, from any machine that sees its folder."""

from platform._door import enter

if __name__ == "__main__":
    enter("control")
