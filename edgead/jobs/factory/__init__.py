"""Many products in one run: a manifest says what is wanted, steps in processes of their own make it, books keep what is done."""
