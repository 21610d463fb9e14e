"""What `ingest.py` runs: devices that push, and the loop by hand that they are held against."""
