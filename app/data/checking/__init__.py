"""What a folder of labelled pictures holds, and what is wrong with it."""
