"""Say hello."""


def add_arguments(parser):
    parser.add_argument("--name", default="you")


def run(arguments):
    print(f"hello {arguments.name}")
    return 0
