"""To be imported before anything else of lib: ends in a line where lib is another clone's."""

from cvpack.errors import refuse_other_clone

refuse_other_clone('lib', __file__)
