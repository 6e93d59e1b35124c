"""Trust and diagnosis: where the predictions of a test err, and whether one test is better than another."""
