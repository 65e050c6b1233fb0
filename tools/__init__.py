"""What makes the committed data files again; nothing of the product imports from here."""
