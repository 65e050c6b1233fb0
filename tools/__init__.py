"""What makes the committed data files again, and looks at what came of it; nothing of the product imports from here."""
