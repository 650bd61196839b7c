"""Collections by retrieval: filters, metadata beside rows, who keeps which row, and the tables that are written."""
