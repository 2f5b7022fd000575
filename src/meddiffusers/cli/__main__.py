"""For `accelerate launch -m meddiffusers.cli …`."""

from meddiffusers.cli import main

if __name__ == "__main__":
    main()
