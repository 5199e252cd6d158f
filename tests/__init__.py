from tests import shapes as shapes
