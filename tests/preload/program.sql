-- Tens of thousands of rows, indexes, joins, updates, deletes, text and blobs, a transaction that is rolled back.
PRAGMA journal_mode = DELETE;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL, data BLOB);
CREATE TABLE sale (item INTEGER NOT NULL REFERENCES item (id), day INTEGER NOT NULL, amount INTEGER NOT NULL);

BEGIN;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
INSERT INTO item SELECT i, printf('item %05d of %d', i * 7919 % 8009, i % 13), i * 31 % 997, zeroblob(i % 300) FROM n;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
INSERT INTO sale SELECT i * 6007 % 8000 + 1, i % 365, i * 17 % 23 + 1 FROM n;
COMMIT;

CREATE INDEX sale_by_item ON sale (item, day);
CREATE INDEX item_by_name ON item (name);
ANALYZE;

SELECT count(*), sum(price), min(name), max(name), sum(length(data)) FROM item;
SELECT name, sum(amount * price) AS worth FROM sale JOIN item ON item = id GROUP BY id ORDER BY worth DESC, name LIMIT 20;
SELECT day % 7, count(DISTINCT item), total(amount) FROM sale GROUP BY 1 ORDER BY 1;
SELECT length(group_concat(name, ',')), substr(group_concat(name, ','), 1, 60) FROM (SELECT name FROM item ORDER BY name);

UPDATE item SET data = CAST(name || price AS BLOB) WHERE id % 3 = 0;
DELETE FROM sale WHERE day BETWEEN 100 AND 150;
BEGIN;
DELETE FROM item;
ROLLBACK;
SELECT count(*), sum(length(data)) FROM item;
SELECT count(*) FROM sale AS a JOIN sale AS b ON a.item = b.item AND a.day < b.day;
VACUUM;
PRAGMA integrity_check;
