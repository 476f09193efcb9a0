"""A registry that takes uploads only, in chunks too, and breaks the first off in the middle: LOG CUT resumes|forgets."""
import hashlib, http.server, sys

LOG, CUT, RESUMES = open(sys.argv[1], "a", buffering=1), int(sys.argv[2]), sys.argv[3] == "resumes"
uploads, broken = {}, False


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def pieces(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            yield self.rfile.read(int(length))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def do_HEAD(self):
        self.answer(404)

    def do_POST(self):
        number = str(len(uploads))
        uploads[number] = b""
        self.answer(202, Location=f"/v2/upload/{number}")

    def place(self):
        return self.path.split("?")[0].rsplit("/", 1)[1]

    def do_GET(self):
        place = self.place()
        if place not in uploads or not RESUMES:
            return self.answer(404)
        self.answer(204, Location=self.path, Range=f"0-{len(uploads[place]) - 1}")

    def do_PATCH(self):
        global broken
        place, before, range_ = self.place(), 0, self.headers.get("Content-Range")
        before = len(uploads[place])
        if range_ and int(range_.split("-")[0]) != before:
            return self.answer(416)
        for piece in self.pieces():
            uploads[place] += piece
            if not broken and len(uploads[place]) > CUT:
                broken = True
                LOG.write(f"PATCH {len(uploads[place]) - before} {range_}\n")
                self.close_connection = True
                return
        LOG.write(f"PATCH {len(uploads[place]) - before} {range_}\n")
        self.answer(202, Location=self.path, Range=f"0-{len(uploads[place]) - 1}")

    def do_PUT(self):
        rest = b"".join(self.pieces())
        if "/manifests/" in self.path:
            LOG.write("PUT manifest\n")
            return self.answer(201)
        content = uploads[self.place()] + rest
        right = self.path.endswith("sha256:" + hashlib.sha256(content).hexdigest())
        LOG.write(f"PUT blob {'as' if right else 'not as'} its digest says\n")
        self.answer(201 if right else 400)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
