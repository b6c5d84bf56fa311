"""What we claim about speed, as programs: `python -m benchmarks mixing`. See README.md here."""
