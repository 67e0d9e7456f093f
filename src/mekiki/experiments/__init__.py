"""Train, compare, evaluate, embed: whole experiments on a run folder."""
