"""What do fields look like before measuring? Source measures, closed-form priors and learned flows."""
