"""What every training loop here shares: checkpoints, signals, the log, the progress bar."""
