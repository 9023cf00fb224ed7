"""Tests of what com.example.HelloWorld answers, on this machine."""

import unittest

import service
from componentize_py_types import Err
from wit_world.imports import com_example_types as types
from wit_world.imports.call import Code


class Service(unittest.TestCase):
    def test_talks_to_whoever_gave_a_name(self):
        self.assertTrue(service.say_hello(types.HelloRequest(name="Ada")).talk_to_me)
        self.assertEqual(service.say_hello(types.HelloRequest(name="")).talk_to_me, service.TALKATIVE)

    def test_a_long_name_is_refused(self):
        with self.assertRaises(Err) as refused:
            service.say_hello(types.HelloRequest(name="x" * (service.NAME + 1)))
        self.assertEqual(refused.exception.value.code, Code.INVALID_ARGUMENT)


if __name__ == "__main__":
    unittest.main()
