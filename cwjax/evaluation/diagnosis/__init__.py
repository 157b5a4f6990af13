"""Can a robustness number be believed: the checks, and what they found."""
