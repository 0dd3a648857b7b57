"""A program in a terminal: what it shows there, and keys that are pressed."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios

import pyte

from .server import _end_with_parent, wait_for


class Terminal:
    """A program in a terminal of its own, so many columns and lines large."""

    def __init__(self, *command, columns=130, lines=30, env=None):
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        self._resize(columns, lines)
        self._before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=_end_with_parent,
        )
        # Kept, so that what is left in it can be read, and how it was left.
        self._slave = slave
        # All bytes that were written, for what a screen does not tell.
        self.written = b""

    def _resize(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns, lines):
        """As a window is."""
        self._resize(columns, lines)
        self.screen.resize(lines, columns)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(28)  # SIGWINCH: it is in no session of this terminal

    def _read(self):
        while select.select([self._master], [], [], 0)[0]:
            found = os.read(self._master, 65536)
            self.written += found
            self._stream.feed(found)

    def lines(self):
        """What is on the screen now."""
        self._read()
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        """The same, as one."""
        return "\n".join(self.lines())

    def wait(self, what):
        """Until it is on the screen; the line that has it."""
        # Of the screen as it was then: it may have been drawn anew since.
        return next(line for line in self.wait_for(re.escape(what)).splitlines() if what in line)

    def wait_for(self, pattern):
        """Until a line is like that; the screen that has it."""
        seen = re.compile(pattern, re.MULTILINE)
        try:
            return wait_for(lambda: seen.search(self.text()), pattern, pause=0.05).string
        except AssertionError as late:
            raise AssertionError(f"{late}, in:\n{self.text()}") from None

    def press(self, keys):
        """Type."""
        os.write(self._master, keys.encode())

    def end(self):
        """Its exit code and what it said on stderr, once it has ended by itself."""
        wait_for(lambda: self._read() or self.process.poll() is not None, "the program to end")
        self._read()
        return self.process.returncode, self.process.stderr.read()

    def is_restored(self):
        """Whether the terminal is as it was: its modes, the cursor, the other screen."""
        shown = self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
        left = self.written.rfind(b"\x1b[?1049l") > self.written.rfind(b"\x1b[?1049h")
        return termios.tcgetattr(self._slave) == self._before and shown and left

    def discard(self):
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        os.close(self._master)
        os.close(self._slave)
