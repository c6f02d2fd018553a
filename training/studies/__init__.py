"""Studies: experiments on a question of the literature, each one command that writes its report."""
