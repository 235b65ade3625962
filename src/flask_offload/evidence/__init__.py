"""Evidence: samples of what requests and page loads really cost, and what follows from them."""
