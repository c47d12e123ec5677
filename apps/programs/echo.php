<?php
// PHP's own server closes no connection by itself, and has no state between requests.
echo ($_GET['n'] ?? ''), "\n";
