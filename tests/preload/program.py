"""Many kinds of memory: small objects, large ones, threads, forked workers, other programs."""
import collections
import hashlib
import json
import multiprocessing
import re
import subprocess
import sys
import threading
import zlib


def words_of(path):
    with open(path, encoding="utf-8") as file:
        return re.findall(r"\w+", file.read())


def count(words):
    counts = collections.Counter(words)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def churn(seed):
    """A table whose entries grow, shrink and go."""
    table = {}
    state = seed
    for step in range(20000):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        key = state >> 52
        if key in table and state & 1:
            del table[key]
        else:
            table[key] = [step] * (state >> 40 & 63) + [str(state)]
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def in_threads():
    found = [None] * 4

    def work(i):
        found[i] = churn(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def in_children():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = pool.map(churn, range(10, 16))
        pool.close()
        pool.join()
    return found


def main():
    words = words_of("README.md")
    print(count(words)[:20])
    document = {"words": words, "counts": dict(count(words)), "nested": [[i, [i, [i]]] for i in range(5000)]}
    text = json.dumps(document, sort_keys=True)
    assert json.loads(text) == document
    print(len(text), hashlib.sha256(text.encode()).hexdigest())
    large = bytearray()
    for i in range(3000):
        large += text[i : i + 1000].encode()
    print(len(zlib.compress(bytes(large), 9)) < len(large), zlib.decompress(zlib.compress(bytes(large))) == large)
    print(in_threads())
    print(in_children())
    for code in ("print('from a child')", "import sys; sys.exit(3)"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        print(done.returncode, done.stdout, done.stderr)
    print(2**20000 % (10**40 + 7), len({frozenset((i, i * i)) for i in range(20000)}))


main()
