"""Runs a program under a container runtime's seccomp profile, without a container runtime.

    under_seccomp.py PROFILE [--without NAME] -- PROGRAM [ARGUMENT...]

The kernel gets the same rules as from a runtime: names, one masked comparison of an argument, and the
error to return. Only for x86_64; exit status 77 on other machines.
"""

import ctypes
import json
import os
import platform
import re
import sys

NUMBERS = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
ARCH = 0xC000003E  # AUDIT_ARCH_X86_64
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction))]


def verdict(action, error):
    return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO | error}[action]


def program(profile, numbers, without):
    refusal = verdict(profile["defaultAction"], profile["defaultErrnoRet"])
    yield LOAD, 0, 0, 4
    yield EQUAL, 1, 0, ARCH
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, 0
    for rule in profile["syscalls"]:
        answer = verdict(rule["action"], rule.get("errnoRet", profile["defaultErrnoRet"]))
        for name in rule["names"]:
            if name not in numbers or name in without:
                continue  # as a runtime does with calls that the architecture does not have
            if "args" not in rule:
                yield EQUAL, 0, 1, numbers[name]
            else:
                (argument,) = rule["args"]
                assert argument["op"] == "SCMP_CMP_MASKED_EQ", argument
                yield EQUAL, 0, 5, numbers[name]
                yield LOAD, 0, 0, 16 + 8 * argument["index"]
                yield AND, 0, 0, argument["value"]
                yield EQUAL, 1, 0, argument["valueTwo"]
                yield RETURN, 0, 0, refusal
            yield RETURN, 0, 0, answer
    yield RETURN, 0, 0, refusal


def main():
    if platform.machine() != "x86_64" or not os.path.exists(NUMBERS):
        sys.exit(77)
    at = sys.argv.index("--")
    options, command = sys.argv[2:at], sys.argv[at + 1 :]
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    with open(NUMBERS) as file:
        numbers = {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", file.read())}
    without = options[options.index("--without") + 1 :] if "--without" in options else []
    instructions = [Instruction(*line) for line in program(profile, numbers, without)]
    array = (Instruction * len(instructions))(*instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in [
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(Program(len(array), array)), 0, 0),
    ]:
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.execv(command[0], command)


main()
