"""SuperSimpleNet, imported only."""
