"""mekiki (目利き): teach an eye from labelled examples."""
