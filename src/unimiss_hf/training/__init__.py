"""What training loops share: checkpoints, uploads, signals, the log, the progress bar."""
