# Hashes, strings, sorting, regular expressions, and a forked child that reports through a pipe.
use strict;
use warnings;

open(my $file, '<', $ARGV[0]) or die "no $ARGV[0]: $!";
my (%count, %lines, @all);
while (my $line = <$file>) {
    chomp $line;
    push @all, $line;
    $count{ lc $1 }++ while $line =~ /(\w+)/g;
    push @{ $lines{ length $line } }, $.;
}
close $file;

my @words = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$_ $count{$_}\n" for @words[0 .. 49];
print join(' ', map { "$_:" . scalar @{ $lines{$_} } } sort { $a <=> $b } keys %lines), "\n";

my $text = join "\n", reverse @all;
$text =~ s/(\d+)/<$1>/g;
$text =~ tr/a-z/A-Z/;
print length($text), ' ', unpack('%32C*', $text), "\n";

delete @count{ @words[0 .. $#words / 2] };
print scalar(keys %count), "\n";

for my $child (1 .. 3) {
    pipe(my $from, my $to) or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        close $from;
        my @sorted = sort { $b cmp $a } @all;
        print $to "child $child: $sorted[$child * 10]\n";
        close $to;
        exit $child;
    }
    close $to;
    print <$from>;
    waitpid $pid, 0;
    print 'ended with ', $? >> 8, "\n";
}
