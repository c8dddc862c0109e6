"""Trains the task classifier: `make train-classifier DATA=../shared/taskdata`. docs/classifier.md says what and why."""
