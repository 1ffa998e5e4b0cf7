"""stub"""


class PoolTokenizer:
    pass
