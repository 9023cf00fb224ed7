"""Version 1.1 talks to everyone."""

TALKATIVE = True
