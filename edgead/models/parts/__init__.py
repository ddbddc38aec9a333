"""What networks of several families are made of: errors between pictures, networks, necks, masks, norms."""
