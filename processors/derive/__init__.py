"""What frames and passages count for. Reads vision.inferences, writes vision.results and alerts; `views` act next."""
