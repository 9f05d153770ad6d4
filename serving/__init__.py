"""SavedModels that carry their own preprocessing, and the server that answers with them."""
