"""Weight files and tokenizer files, read into networks."""
