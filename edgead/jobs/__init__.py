"""What the verbs do: plain values in, a result out; no printing, no command line."""
